# Thin habits; everything is done by dev.py.
.PHONY: setup demo test deep bench
setup demo test bench:
	python3 dev.py $@
deep:
	python3 dev.py test --deep
