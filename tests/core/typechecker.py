"""The checker behind the shapes of public calls while tests run: beartype, an int being a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
