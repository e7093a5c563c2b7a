-- What was committed and perhaps not told yet (docs/architecture.md#crash-between-commit-and-publish).
--
-- The transaction that stores a batch of messages, or alters a chat, writes a row here; the node takes it away when it
-- has published everything and the bus has confirmed it. What stays belongs to a node that is dead or cut off, and
-- another one sees to it. `xid` is the transaction: a session whose sync was read at a later horizon knows all of it.
-- `seqs` are the messages' beside `chats`; 0 for a chat that was altered.

create sequence node_number minvalue 1 maxvalue 1048575 cycle; -- connection ids hold it above a counter

create table dispatch_log (
    node        bigint not null,
    number      bigint not null,                -- rising within the node
    xid         bigint not null default (pg_current_xact_id()::text::bigint),
    at          bigint not null default (extract(epoch from clock_timestamp())::bigint),
    chats       bigint[] not null,
    seqs        bigint[] not null,
    primary key (node, number)
) with (
    -- A queue: few rows live, many die. Vacuum by their number, not by a share of the few.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000
);

-- As in 0002, with two parameters more on each side of the batch: the row of dispatch_log that the batch writes, and the
-- rows that are done.
drop function commit_messages(bigint[], bigint[], bigint[], bigint[], text[], text[]);
create function commit_messages(
    this_node bigint, this_number bigint, done bigint[],
    chats bigint[], users bigint[], devices bigint[], cids bigint[], texts text[], extras text[]
) returns table (
    ord bigint, outcome int, seq bigint, at bigint, kind smallint, low bigint, high bigint,
    stored_text text, stored_extra jsonb, concerned bigint[]
) language plpgsql as $$
#variable_conflict use_column
declare
    stamp bigint;
begin
    if done <> '{}' then
        delete from dispatch_log d where d.node = this_node and d.number = any (done);
    end if;
    perform from chat where id = any (chats) order by id for no key update;
    stamp := extract(epoch from clock_timestamp())::bigint; -- after the wait, so that times rise with seq

    return query
    with input as (
        select i.chat_id, i.user_id, i.device_id, i.cid, i.txt, i.extra, i.ord,
               c.head, c.kind, c.low, c.high, c.hidden,
               m.user_id is not null and (m.left_at is null or c.kind = 1) as allowed,
               s.seq as old_seq, s.at as old_at, s.deleted as old_deleted, s.text as old_text, s.extra as old_extra
        from unnest(chats, users, devices, cids, texts, extras) with ordinality
             as i(chat_id, user_id, device_id, cid, txt, extra, ord)
        left join chat c on c.id = i.chat_id
        left join member m on m.chat_id = i.chat_id and m.user_id = i.user_id
        left join message s on s.chat_id = i.chat_id and s.device_id = i.device_id and s.cid = i.cid
    ),
    judged as materialized (
        select i.*, i.old_seq is null and i.allowed as fresh,
               i.head + count(*) filter (where i.old_seq is null and i.allowed)
                            over (partition by i.chat_id order by i.ord) as seq
        from input i
    ),
    inserted as (
        insert into message (chat_id, seq, sender, device_id, cid, at, text, extra)
        select j.chat_id, j.seq, j.user_id, j.device_id, j.cid, stamp, j.txt, j.extra::jsonb
        from judged j where j.fresh
    ),
    logged as (
        insert into dispatch_log (node, number, chats, seqs)
        select this_node, this_number, array_agg(j.chat_id order by j.ord), array_agg(j.seq order by j.ord)
        from judged j where j.fresh having count(*) > 0
    ),
    raised as (
        update chat c
        set head = f.head, active = stamp, hidden = false, touched = pg_current_xact_id()
        from (select j.chat_id, max(j.seq) as head from judged j where j.fresh group by 1) f
        where c.id = f.chat_id
    ),
    read_own as (
        update member m
        set read_seq = f.seq, left_at = null
        from (select j.chat_id, j.user_id, max(j.seq) as seq from judged j where j.fresh group by 1, 2 order by 1, 2) f
        where m.chat_id = f.chat_id and m.user_id = f.user_id
    ),
    came_back as (
        update member m
        set left_at = null
        from (select distinct j.chat_id from judged j where j.fresh and j.hidden) f
        where m.chat_id = f.chat_id and m.left_at is not null
          and not exists (select from judged j where j.fresh and j.chat_id = m.chat_id and j.user_id = m.user_id)
    )
    select j.ord,
           case when j.old_seq is not null then 1 when j.allowed then 0 else 2 end,
           coalesce(j.old_seq, j.seq), coalesce(j.old_at, stamp),
           j.kind, j.low, j.high,
           case when j.old_deleted is null then j.old_text end, j.old_extra,
           case when j.fresh and j.hidden then
               array(select b.user_id from member b where b.chat_id = j.chat_id and b.left_at is not null)
           when j.old_seq is not null and j.kind = 1 then
               array(select b.user_id from member b where b.chat_id = j.chat_id and b.first_seq <= j.old_seq)
           end
    from judged j;
end
$$;
