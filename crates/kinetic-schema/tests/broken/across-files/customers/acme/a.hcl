customer "acme" {
  region = region.local
}

source "web" {
  data_type = "statsd"
  routing   = ["web.#"]
}
