"""Every named bound, with its reason, in the file of what it bounds; all are read here, as
`limits.NAME`. A bound that nobody can explain is a bug."""

from restante.limits.client import *
from restante.limits.formats import *
from restante.limits.networks import *
from restante.limits.node import *
from restante.limits.rules import *
