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
      members = ["a", "b", "c", "d", "e"]
    }
  }

  analytic "slow-host" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10s"
    for    = "2 of 3"

    rule "deviates" {
      deviations = 1.5
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    to        = ["oncall@acme.example"]
  }
}
