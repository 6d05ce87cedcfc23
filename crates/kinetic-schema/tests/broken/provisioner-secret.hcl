provisioner "docker" {
  max   = 4
  image = "registry.example/kinetic:1.0"
  env   = { SMTP_PASSWORD = "hunter2" }
}
