mail {
  relay      = "smtp.example:587"
  from       = "Kinetic <kinetic@acme.example>"
  bounces    = "b@acme.example"
  public_url = "https://alerts.acme.example/kinetic"

  dkim {
    domain   = "notacme.example"
    selector = "kinetic"
    key_file = "/etc/kinetic/dkim.pem"
  }
}
