region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  source "web" {
    data_type = "statsd"
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
    metric = "*.latency"
    window = "10s"
    for    = "1 of 1"

    rule "deviates" {
      deviations = 1
      direction = "both"
      min_effect = "5%"
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    to        = ["oncall@acme.example"]
  }
}
