# Three RabbitMQ nodes, each in a zone of its own; queues are replicated over them, and clients spread.
region "us-west.aws" {
  amqp = [
    "amqps://broker-a.us-west.aws.example:5671",
    "amqps://broker-b.us-west.aws.example:5671",
    "amqps://broker-c.us-west.aws.example:5671",
  ]
  order  = "by_origin"
  queues = "quorum"
  zones  = ["us-west-2a", "us-west-2b", "us-west-2c"]
}

mail {
  relay = "smtp.example:587"
  from  = "Kinetic <alerts@example.org>"
}

# Who is told when an analyzer or a redirector falls silent.
watchdog {
  to                    = ["platform@example.org"]
  analyzer_silent_after = "30s"
}

# Two analyzers at least, eight at most.
provisioner "docker" {
  image   = "registry.example/kinetic:1.0"
  network = "metrics"
  min     = 2
  max     = 8
  env     = { TZ = "UTC", RUST_LOG = "kinetic=info" }
}
