provisioner {
  max = 4
}
