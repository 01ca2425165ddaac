"""Why an attribute can't be had or set; each becomes one errno at the kernel's side."""


class AttributeRefused(Exception):
    """Nothing was changed."""


class NoAttribute(AttributeRefused):
    """The file or folder has no such attribute now."""


class AttributeExists(AttributeRefused):
    """It was to be made, and is there."""


class NoSuchKind(AttributeRefused):
    """There is no attribute of that name for such a thing."""


class NotSettable(AttributeRefused):
    """It can be read only, or set but not removed."""


class BadValue(AttributeRefused):
    """The value is none that such an attribute can have; the text says why."""


class NotKnownYet(AttributeRefused):
    """Procore must be asked first, and a request that holds a folder's lock does not wait for that."""


class TooMuch(AttributeRefused):
    """The attributes of one file would take too much room."""
