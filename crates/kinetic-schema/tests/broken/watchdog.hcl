region "local" {}

watchdog {
  analyzer_silent_after   = "1s"
  redirector_silent_after = "2d"
  alert_silent_after      = "1m"
  group_interval          = "10m"
  repeat_interval         = "5m"
  to                      = ["ops@example.org", "ops", "ops@example.org"]
}

watchdog {
  to = "ops@example.org"
}

customer "acme" {
  region = region.local

  watchdog {
    to = "acme@example.org"
  }
}
