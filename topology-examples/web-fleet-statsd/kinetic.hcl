# The installation: where brokers are and how mail leaves.

region "us-west.aws" {
  amqp = ["amqps://broker-1.us-west.example:5671", "amqps://broker-2.us-west.example:5671"]
}

mail {
  relay         = "smtp.example:587"
  from          = "Kinetic <alerts@example.org>"
  username      = "kinetic"
  password_file = "/etc/kinetic/smtp-password" # on the alert node; secrets never stand in this repository
}
