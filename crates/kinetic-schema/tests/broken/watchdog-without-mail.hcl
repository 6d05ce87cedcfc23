watchdog {
  to = "ops@example.org"
}
