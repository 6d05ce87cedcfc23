region "eu-central.hetzner" {
  amqp = "amqps://broker.eu-central.example:5671"
}

region "us-west.aws" {
  amqp = "amqps://broker.us-west.example:5671"
}

mail {
  relay = "smtp.example:587"
  from  = "alerts@example.org"
}
