mail {
  relay      = "smtp.example:587"
  from       = "kinetic@acme.example"
  bounces    = "Bounces <bounces@acme.example>"
  public_url = "http://alerts.acme.example"

  fallback "second" {
    relay    = "smtp.example"
    username = "kinetic"
  }

  fallback "second" {
    relay = "mx.example:25"
    from  = "other@acme.example"
  }

  fallback {
    relay = "mx.example:25"
  }

  dkim {
    domain   = "-acme.example"
    selector = "a b"
  }

  dkim {
    domain   = "acme.example"
    selector = "kinetic"
    key_file = "/etc/kinetic/dkim.pem"
  }
}

dkim {
  domain = "acme.example"
}
