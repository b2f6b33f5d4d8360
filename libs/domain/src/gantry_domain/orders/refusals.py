"""Why a change is not made: errors that tell, without numbers or names, what is in its way."""

from gantry_domain.errors import PermanentError
from gantry_domain.orders.states import StepState


class ChangeRefused(PermanentError):
    """A change that what there is does not allow."""


class UnknownOrder(ChangeRefused):
    """No order is known by these numbers."""

    def __init__(self) -> None:
        super().__init__("no order is known by these numbers")


class WrongPatient(ChangeRefused):
    """The order is another patient's: to mix them up is worse than to refuse."""

    def __init__(self) -> None:
        super().__init__("the order with these numbers is another patient's")


class StateNotAllowed(ChangeRefused):
    """The order is in a state in which it cannot come to the wanted one."""

    def __init__(self, present: StepState, wanted: StepState) -> None:
        super().__init__(f"an order that is {present} cannot be {wanted}".replace("_", " "))
        self.present = present
        self.wanted = wanted


class PerformedExists(ChangeRefused):
    """There is a performed step with this UID already."""

    def __init__(self) -> None:
        super().__init__("there is a performed procedure step with this UID")


class PerformedUnknown(ChangeRefused):
    """There is no performed step with this UID."""

    def __init__(self) -> None:
        super().__init__("there is no performed procedure step with this UID")


class PerformedOver(ChangeRefused):
    """A performed step that has ended is not changed any more (PS3.4 F.7.2.2)."""

    def __init__(self) -> None:
        super().__init__("the performed procedure step is over and may not be updated")
