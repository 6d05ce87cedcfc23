provisioner "dockr" {
  max = 4
}
