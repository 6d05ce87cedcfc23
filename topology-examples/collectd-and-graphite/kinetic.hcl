region "fra1" {
  amqp  = "amqps://10.0.0.5:5671"
  vhost = "metrics"
}

mail {
  relay = "mail.hosting.example:25"
  from  = "kinetic@hosting.example"
}
