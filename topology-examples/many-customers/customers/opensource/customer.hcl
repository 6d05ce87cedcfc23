# Whoever sends carbon or statsd to an edge and is no customer.
customer "opensource" {
  region = region["eu.hosting"]

  limits {
    samples_per_second = 1000
    series             = 10000
  }
}

source "anything" {
  routing = ["#"]
}

service "anybody" {
  cluster "hosts" {
    source  = source.anything
    members = ["*"]
  }
}
