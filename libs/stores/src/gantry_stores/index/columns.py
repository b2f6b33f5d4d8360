"""What the tables of the index have in common: how constraints are named, and a few columns."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def surrogate() -> Column[int]:
    """A key that nothing outside the database knows."""
    return Column("pk", BigInteger, Identity(), primary_key=True)


def moment(name: str, *, nullable: bool = False) -> Column[object]:
    """A moment, aware."""
    return Column(name, DateTime(timezone=True), nullable=nullable)
