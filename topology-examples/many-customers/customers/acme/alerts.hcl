analytic "slow-host" {
  on     = service.shop
  metric = "request.time"
  window = "10s"
  for    = "3 of 5"

  rule "deviates" {
    deviations = 3
    min_feeds  = 11
    min_effect = "20%"
  }
}

alert "shop" {
  analytics = analytic.slow-host
  to        = "oncall@acme.example"
}
