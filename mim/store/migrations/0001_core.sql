-- The core of mim. Every hot table carries chat_id or user_id at the head of its key, so that it can be
-- hash-partitioned or distributed as it stands. Times are whole seconds since 1970 unless the name says otherwise.

create table account (
    id          bigint generated always as identity primary key,
    phone       text unique,                    -- E.164
    sub         text unique,                    -- the id an app with accounts of its own gave
    name        text not null default '',
    status      text not null default '',
    photo       text not null default '',
    locale      text not null default '',
    created     bigint not null,
    constraint account_named check (phone is not null or sub is not null)
);

create table device (
    id          bigint generated always as identity primary key,
    user_id     bigint not null references account (id),
    install     text,                           -- `dev` of an app's own tokens
    name        text not null default '',
    os          text not null default '',
    created     bigint not null,
    seen        bigint not null,
    revoked     bigint,
    push_platform text,
    push_token  text,
    unique (user_id, install)
);

-- A refresh token rotates: `current` is the newest, `previous` is good until `current` was used once, so that
-- an answer lost on the way does not sign a phone out. Only SHA-256 of the tokens is kept.
create table refresh_token (
    device_id   bigint primary key references device (id),
    current     bytea not null unique,
    previous    bytea unique,
    expires     bigint not null
);

create table login_code (
    phone       text primary key,
    digest      bytea not null,
    expires     bigint not null,
    tries       int not null default 0
);

-- How often something was done in the current window, across nodes (one-time codes by phone and address).
create table rate_window (
    subject     text primary key,
    started     bigint not null,
    used        int not null
);

create table server_secret (
    name        text primary key,
    value       bytea not null
);

create table chat (
    id          bigint generated always as identity primary key,
    kind        smallint not null,              -- 1 direct, 2 group
    hidden      boolean not null default false, -- direct: one side left, the next message brings it back
    title       text,
    notice      text,
    head        bigint not null default 0,      -- seq of the newest message
    rev         bigint not null default 0,      -- rev of the newest change
    members     int not null,                   -- present members, counted anew at every join and leave
    low         bigint,                         -- direct: the two users, the smaller id first
    high        bigint,
    active      bigint not null,                -- time of the last message or change, for listing
    touched     xid8 not null,                  -- last transaction that changed what every member sees
    created     bigint not null
) with (fillfactor = 70);

create table direct_chat (
    low         bigint not null,
    high        bigint not null,
    chat_id     bigint not null,
    primary key (low, high)
);

create table member (
    chat_id     bigint not null,
    user_id     bigint not null,
    role        smallint not null default 1,    -- 1 member, 2 manager, 3 owner
    first_seq   bigint not null,                -- first seq this user may see
    read_seq    bigint not null,                -- watermark
    joined      bigint not null,
    join_rev    bigint not null,                -- order of joining within the chat
    left_at     bigint,                         -- null: present
    muted       boolean not null default false,
    pinned      boolean not null default false,
    touched     xid8 not null,                  -- last transaction that changed what this user alone sees
    primary key (chat_id, user_id)
) with (fillfactor = 70);
create index member_user on member (user_id, chat_id);

create table message (
    chat_id     bigint not null,
    seq         bigint not null,
    sender      bigint not null,
    device_id   bigint not null,
    cid         bigint not null,
    at          bigint not null,
    edited      bigint,
    deleted     bigint,
    reacted     boolean not null default false, -- whether table reaction has rows for it
    text        text not null,
    extra       jsonb,                          -- the rest of a body that was sent as a map
    primary key (chat_id, seq),
    unique (chat_id, device_id, cid)
);

create table change (
    chat_id     bigint not null,
    rev         bigint not null,
    kind        text not null,
    user_id     bigint not null,
    at          bigint not null,
    after       bigint not null,                -- head when it happened
    about       bigint,                         -- seq of the message it is about
    data        jsonb not null,                 -- without `after`
    primary key (chat_id, rev)
);
create index change_about on change (chat_id, about) where about is not null;

create table reaction (
    chat_id     bigint not null,
    seq         bigint not null,
    user_id     bigint not null,
    reaction    text not null,
    primary key (chat_id, seq, user_id)
);

-- Messages that one user deleted for himself alone.
create table hidden_message (
    user_id     bigint not null,
    chat_id     bigint not null,
    seq         bigint not null,
    at          bigint not null,
    primary key (user_id, chat_id, seq)
);

-- Search: one row per 64 messages of a chat, with the hashed bigrams of their texts. Messages after the last
-- row of a chat are few and are read directly. Indexing is off the hot path.
create table search_block (
    chat_id     bigint not null,
    first_seq   bigint not null,
    last_seq    bigint not null,
    first_at    bigint not null,                -- times of the oldest and newest message in it
    last_at     bigint not null,
    grams       int[] not null,
    primary key (chat_id, first_seq)
);
create index search_block_grams on search_block using gin (grams);

-- The form in which texts are compared: composed, without case. How letters lose their case depends on the collation, and
-- a database made with locale C knows only ASCII, so the best one that this Postgres has is chosen here.
do $$
declare
    best constant text := (
        select format('collate %I.%I', n.nspname, c.collname)
        from pg_collation c join pg_namespace n on n.oid = c.collnamespace
        where c.collname in ('pg_unicode_fast', 'pg_c_utf8', 'und-x-icu')
        order by array_position(array['pg_unicode_fast', 'pg_c_utf8', 'und-x-icu'], c.collname::text) limit 1
    );
begin
    execute format(
        'create function fold_text(text) returns text language sql immutable strict parallel safe '
        'as $f$ select lower(normalize($1, NFC) %s) $f$', coalesce(best, ''));
end
$$;
