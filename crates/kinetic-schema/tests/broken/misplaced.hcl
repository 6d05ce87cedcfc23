region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

source "web" {
  data_type = "statsd"
  routing   = ["web.#"]
}

lateness = "2s"

rule "deviates" {}
