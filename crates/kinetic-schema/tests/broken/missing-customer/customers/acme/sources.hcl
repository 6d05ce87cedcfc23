source "web" {
  data_type = "statsd"
  routing   = ["web.#"]
}
