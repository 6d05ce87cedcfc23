# What is judged, and who is told.

analytic "slow-host" {
  on          = service.checkout.cluster.frontends
  metric      = "checkout.latency"
  value       = "p95"
  window      = "10s"
  for         = "3 of 5"
  severity    = "critical"
  description = "Runbook: https://wiki.example/slow-host"

  rule "deviates" {
    deviations = 3
    direction  = "above"
    min_feeds  = 11
    min_effect = "10%"
  }
}

analytic "idle-worker" {
  on     = service.payments # every cluster of the service
  metric = "jobs.done"
  value  = "rate"
  window = "1m"
  for    = "3 of 5"

  rule "deviates" {
    deviations          = 3
    direction           = "below"
    min_effect_absolute = 0.5 # jobs per second
  }
}

alert "checkout-team" {
  analytics       = [analytic.slow-host, analytic.idle-worker]
  to              = ["oncall@acme.example", "Checkout Team <checkout@acme.example>"]
  group_wait      = "10s"
  repeat_interval = "12h"
}
