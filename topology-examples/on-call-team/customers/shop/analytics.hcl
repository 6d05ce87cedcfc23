# What is out of line, and how bad that is.

analytic "slow-host" {
  on          = [service.checkout, service.payments, service.search]
  metric      = "request.time"
  value       = "p95"
  window      = "10s"
  for         = "3 of 5"
  description = "Runbook: https://wiki.shop.example/slow-host"

  rule "deviates" {
    deviations = 3
    min_feeds  = 11
    min_effect = "20%"
  }
}

analytic "failing-payments" {
  on          = service.payments
  metric      = "payment.failed"
  value       = "rate"
  window      = "30s"
  for         = "3 of 5"
  severity    = "critical"
  description = "Runbook: https://wiki.shop.example/failing-payments"

  rule "deviates" {
    deviations          = 3
    min_feeds           = 11
    min_effect_absolute = 0.5 # payments per second
  }
}

analytic "gone" {
  on       = [service.checkout, service.payments, service.search]
  metric   = "uptime"
  severity = "critical"
  labels   = { kind = "silence" }

  rule "silent" {
    after = "5m"
  }
}
