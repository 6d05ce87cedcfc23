region "local" {}

customer "kinetic" {
  region = region.local

  source "health" {
    routing = ["#"]
  }

  service "installation" {
    cluster "nodes" {
      source  = source.health
      members = ["*"]
    }
  }

  alert "watchdog" {
    to = ["ops@example.org"]
  }
}
