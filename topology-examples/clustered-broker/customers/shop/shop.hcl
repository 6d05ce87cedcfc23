customer "shop" {
  region = region["us-west.aws"]

  key "2026-a" {
    salted_sha256 = "aeac5b973b1ad4f0bbf6ac7a2bf0f8c5a3ff0e4e1f0ad6e3f2a60d9c2d2c3a2a5d0b7c11"
    expires       = "2027-12-31"
  }
}

profile "hosts" {
  data_type = "statsd"
}

# More than one analyzer can take in: split over four by the host that sends.
source "hosts" {
  profile    = profile.hosts
  routing    = ["#"]
  partitions = 4
}

service "storefront" {
  cluster "web" {
    source  = source.hosts
    members = ["web-*"]
  }
}

analytic "slow-host" {
  on     = service.storefront
  metric = "request.time"
  value  = "p95"
  window = "10s"
  for    = "3 of 5"

  rule "deviates" {
    deviations = 3
    min_feeds  = 11
    min_effect = "5%"
  }
}

# A host of which nothing is heard.
analytic "host-gone" {
  on          = service.storefront
  metric      = "uptime"
  severity    = "critical"
  description = "Look at the host's console first. If it runs, its agent does not."

  rule "silent" {
    after = "2m"
  }
}

# All of them at once: that is the network, or us.
analytic "fleet-gone" {
  on     = service.storefront
  metric = "uptime"

  rule "silent" {
    after = "5m"
    each  = "cluster"
  }
}

alert "storefront" {
  analytics = [analytic.slow-host, analytic.host-gone, analytic.fleet-gone]
  to        = ["oncall@shop.example"]
}
