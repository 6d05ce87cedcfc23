# What there is: sources of data, and services made of clusters of like machines.

profile "web" {
  data_type = "statsd"
}

source "web" {
  profile  = profile.web
  routing  = ["web.#"]
  lateness = "3s"
}

service "checkout" {
  depends_on = [service.payments]

  cluster "frontends" {
    source  = source.web
    members = ["web-*"]
  }
}

service "payments" {
  # Members named one by one: `kinetic check` then knows the cluster's size and what a rule can do on it.
  cluster "workers" {
    source = source.web
    members = [
      "pay-1", "pay-2", "pay-3", "pay-4", "pay-5", "pay-6",
      "pay-7", "pay-8", "pay-9", "pay-10", "pay-11", "pay-12",
    ]
  }
}
