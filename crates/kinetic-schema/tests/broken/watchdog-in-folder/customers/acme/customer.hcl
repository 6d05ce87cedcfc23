customer "acme" {
  region = region.local
}

watchdog {
  to = "acme@example.org"
}

provisioner "process" {
  max = 2
}
