"""Profiles of users and the list of their devices."""

from typing import Any

from mim.store.db import Connection, Pool


async def find(db: Pool | Connection, phone: str | None, sub: str | None) -> Any | None:
    """Row (id, name) of the account with this phone (E.164) or external id."""
    return await db.fetchrow(
        """select id, name from account
           where ($1::text is not null and phone = $1) or ($2::text is not null and sub = $2)""",
        phone, sub,
    )  # fmt: skip


async def get(db: Pool | Connection, user: int) -> Any | None:
    """Row (id, name, status, photo) of a user."""
    return await db.fetchrow("select id, name, status, photo from account where id = $1", user)


async def update(
    db: Pool | Connection,
    user: int,
    name: str | None,
    status: str | None,
    photo: str | None,
    locale: str | None,
) -> None:
    """Set what is not None."""
    await db.execute(
        """update account set name = coalesce($2, name), status = coalesce($3, status), photo = coalesce($4, photo),
               locale = coalesce($5, locale) where id = $1""",
        user, name, status, photo, locale,
    )  # fmt: skip


async def devices(db: Pool | Connection, user: int) -> list[Any]:
    """Rows (id, name, os, seen) of the user's signed-in devices, latest seen first."""
    return await db.fetch(
        "select id, name, os, seen from device where user_id = $1 and revoked is null order by seen desc, id desc",
        user,
    )
