-- Push notifications (docs/push.md). What is to be told waits in push_outbox without any text: what a notification
-- says is read when it is sent, so an edited text is the new one and a deleted one is gone.

alter table device
    add push_voip   text,                       -- APNs: the token for calls, of its own kind
    add push_locale text not null default '',   -- of the texts that this device shows; '' = the account's
    add push_since  double precision;           -- second of the registration: who calls it dead from before is out of date
create index device_push on device (user_id) where push_platform is not null;
create index device_push_token on device using hash (push_token) where push_token is not null;

-- What a user wants to be told; who has no row has the defaults.
create table push_settings (
    user_id     bigint primary key references account (id),
    preview     text,                           -- full, sender, none; null: what the deployment says
    quiet_from  smallint,                       -- minutes since midnight in `zone`; null: no quiet hours
    quiet_until smallint,
    zone        text,
    reading     boolean not null default true,  -- wait whether another connected device reads the message
    mentions    boolean not null default true,  -- a mention passes a mute
    calls       boolean not null default true   -- a call passes a mute
);

-- One row for what a device is to be told of a chat: newer messages raise `seq` of the row that waits. `asked` counts
-- those, so that a worker that took the row knows whether there is more by now. A taken row has its `due` in the
-- future; when its worker dies, it simply becomes due again. Times are seconds since 1970 with a fraction.
create table push_outbox (
    id          bigint generated always as identity primary key,
    device_id   bigint not null,
    chat_id     bigint not null,
    kind        smallint not null,              -- 1 message, 2 a shown message was edited or deleted, 3 call
    user_id     bigint not null,
    platform    text not null,
    seq         bigint not null,                -- newest message to tell of
    loud        boolean not null,               -- a mention or a call that may pass a mute
    asked       int not null default 1,
    attempts    int not null default 0,
    taken       boolean not null default false,
    due         double precision not null,
    expires     double precision not null,      -- worthless from then on
    committed   double precision not null,      -- when the oldest message it tells of was committed
    unique (device_id, chat_id, kind)
) with (fillfactor = 70);
create index push_outbox_due on push_outbox (platform, due);

-- What a device was told last of a chat: for not telling it twice, for the rates, and to replace what is shown.
create table push_told (
    device_id   bigint not null,
    chat_id     bigint not null,
    seq         bigint not null,
    at          double precision not null,
    shown       bigint not null,                -- seq of the one message whose text is shown; 0: none, or only a count
    primary key (device_id, chat_id)
) with (fillfactor = 70);
create index push_told_chat on push_told (chat_id, shown) where shown <> 0;
create index push_told_at on push_told (at);
