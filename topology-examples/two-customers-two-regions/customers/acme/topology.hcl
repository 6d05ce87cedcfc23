# A shop: what fails at the bottom explains what fails above it, so that one mail names the cause.

source "fleet" {
  data_type = "statsd"
  routing   = ["shop.#"]
}

service "storefront" {
  depends_on = [service.catalogue, service.basket]

  cluster "web" {
    source  = source.fleet
    members = ["web-*"]
  }
}

service "catalogue" {
  depends_on = [service.storage]

  cluster "api" {
    source  = source.fleet
    members = ["cat-*"]
  }
}

service "basket" {
  depends_on = [service.storage]

  cluster "api" {
    source  = source.fleet
    members = ["basket-*"]
  }
}

service "storage" {
  cluster "nodes" {
    source  = source.fleet
    members = ["stor-*"]
  }
}

analytic "slow-node" {
  on     = [service.storefront, service.catalogue, service.basket, service.storage]
  metric = "*.latency"
  value  = "p95"
  window = "30s"
  for    = "3 of 5"

  rule "deviates" {
    deviations = 3
    min_feeds  = 11
    min_effect = "10%"
  }
}

alert "shop" {
  analytics = [analytic.slow-node]
  to        = ["oncall@acme.example"]
}
