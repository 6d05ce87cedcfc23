provisioner "docker" {
  socket    = "tcp://engine.example:2375"
  load_high = 80
  load_low  = 30
  env = {
    TZ             = "UTC"
    "2ND"          = "x"
    RUST_LOG       = info
    SMTP_PASSWORD  = "hunter2"
    PASSWORD_FILE  = "/run/secrets/password"
    "TZ"           = "CET"
    (1 + 1)        = "two"
  }
}
