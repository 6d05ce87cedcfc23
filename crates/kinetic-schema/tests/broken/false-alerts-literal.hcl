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
      members = ["web-1", "web-2", "web-3", "web-4", "web-5", "web-6", "web-7", "web-8", "web-9", "web-10", "web-11", "web-12"]
    }
  }

  analytic "slow-host" {
    on     = service.checkout.cluster.frontends
    metric = "latency"
    window = "10s"
    for    = "1 of 1"

    rule "deviates" {
      deviations = 1
    }
  }

  alert "team" {
    analytics = [analytic.slow-host]
    to        = ["oncall@acme.example"]
  }
}
