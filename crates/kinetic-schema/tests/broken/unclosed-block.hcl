region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"

customer "acme" {
  region = region.local

  source "web" {
    data_type = "statsd"
    routing   = ["web.#"]
  }
}
