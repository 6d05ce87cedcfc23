source "web" {
  data_type = "statsd"
  routing   = ["web.#"]
}

service "shop" {
  cluster "frontends" {
    source  = source.web
    members = ["web-*"]
  }
}
