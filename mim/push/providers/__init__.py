"""One file per provider; all implement :class:`mim.push.notice.Provider`."""
