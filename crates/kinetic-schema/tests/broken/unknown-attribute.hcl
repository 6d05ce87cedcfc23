region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  source "web" {
    data_type = "statsd"
    rooting   = ["web.#"]
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
    window = "10s"
    for    = "3 of 5"

    rule "deviates" {
      deviations = 3
      min_feeds  = 11
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    to        = ["oncall@acme.example"]
  }
}
