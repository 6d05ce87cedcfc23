region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  source "web" {
    data_type = "statsd"
    lateness  = "10 parsecs"
    routing   = ["web.#"]
  }

  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = ["web-*"]
    }
  }

  analytic "slow-host" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10ms"
    for    = "3 of 5"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    group_wait = "2h"
    repeat_interval = "1m"
    to        = ["oncall@acme.example"]
  }
}
