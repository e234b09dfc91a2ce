"""What each entry under Plugins > Skin does, one module each."""
