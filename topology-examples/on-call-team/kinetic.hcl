# The installation: where brokers are, and how mail leaves.

region "eu" {
  amqp = ["amqps://broker.eu.example:5671"]
}

mail {
  relay         = "smtp.example:587"
  from          = "Kinetic <alerts@shop.example>"
  username      = "kinetic"
  password_file = "/etc/kinetic/smtp-password"
  bounces       = "bounces@shop.example" # an alias that pipes into `kinetic mail bounced`
  public_url    = "https://alerts.shop.example" # for the links "acknowledge" and "silence" in mails

  # When the provider cannot be reached: our own, then whatever runs on this machine.
  fallback "own" {
    relay = "mx.shop.example:25"
  }

  fallback "local" {
    relay = "localhost:25"
    tls   = "none"
  }

  dkim {
    domain   = "shop.example"
    selector = "kinetic"
    key_file = "/etc/kinetic/dkim.pem"
  }
}

watchdog {
  to = "platform@shop.example"
}
