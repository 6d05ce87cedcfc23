# One region on this installation's own broker, and a relay on this machine.

region "local" {}

mail {
  relay = "localhost:25"
  tls   = "none"
  from  = "Kinetic <alerts@example.com>"
}

# Analyzers and redirectors that stop without saying so.
watchdog {
  to = "ops@example.com"
}
