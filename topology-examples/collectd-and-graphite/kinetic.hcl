region "fra1" {
  amqp  = "amqp://10.0.0.5:5672"
  vhost = "metrics"
}

mail {
  relay = "mail.hosting.example:25"
  from  = "kinetic@hosting.example"
}
