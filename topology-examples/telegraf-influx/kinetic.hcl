region "plant" {
  amqp = "amqps://broker.plant.example"
}

mail {
  relay = "[2001:db8::25]:465" # port 465 is TLS from the first byte, unless tls says otherwise
  from  = "kinetic@plant.example"
}
