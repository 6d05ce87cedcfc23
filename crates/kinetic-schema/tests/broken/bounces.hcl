mail {
  relay      = "smtp.example:587"
  from       = "Kinetic <kinetic@acme.example>"
  bounces    = "bounces+kinetic@acme.example"
  public_url = "https://alerts.acme.example/kinetic?a=b"

  dkim {
    domain   = "acme.example"
    selector = "kinetic"
    key_file = "/etc/kinetic/dkim.pem"
  }
}
