"""StyleGAN2 and StyleGAN3 for genreg: published weights without pickles or a compiler, style control, fast on a CPU."""
