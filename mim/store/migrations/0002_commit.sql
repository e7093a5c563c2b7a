-- The hot path: one call stores a whole batch of messages (docs/architecture.md#group-commit).
--
-- Two statements, because a statement sees only what was committed when it began: the first waits for the locks of
-- the chats, in id order; the second then looks with a fresh snapshot, so what it judges (membership, what
-- is stored already, the head) cannot change under it, whatever other nodes do with the same chats.
--
-- Rows of one call must differ in (chat, device, cid). Outcomes: 0 stored, 1 stored before (with the stored text, for
-- the repeated delivery), 2 not a member. `concerned` are users of a direct chat:
-- those to whom it comes back by a new message, those who may see a message that was stored before.
create function commit_messages(
    chats bigint[], users bigint[], devices bigint[], cids bigint[], texts text[], extras text[]
) returns table (
    ord bigint, outcome int, seq bigint, at bigint, kind smallint, low bigint, high bigint,
    stored_text text, stored_extra jsonb, concerned bigint[]
) language plpgsql as $$
#variable_conflict use_column
declare
    stamp bigint;
begin
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

-- Move watermarks: never back, never above the head, only for present members. Returns those that moved.
-- The rows are locked first, by chat and user, as commit_messages takes them: a join would update them in whatever order
-- it finds them, and two statements would wait for each other.
create function mark_read(chats bigint[], users bigint[], seqs bigint[])
returns table (chat_id bigint, user_id bigint, seq bigint, kind smallint, low bigint, high bigint, members int)
language sql as $$
    with target as materialized (
        select m.chat_id, m.user_id, least(i.seq, c.head) as seq, c.kind, c.low, c.high, c.members
        from unnest(chats, users, seqs) as i(chat_id, user_id, seq)
        join chat c on c.id = i.chat_id
        join member m on m.chat_id = i.chat_id and m.user_id = i.user_id
        where m.left_at is null and m.read_seq < least(i.seq, c.head)
        order by m.chat_id, m.user_id
        for no key update of m
    )
    update member m
    set read_seq = t.seq, touched = pg_current_xact_id()
    from target t
    where m.chat_id = t.chat_id and m.user_id = t.user_id and m.left_at is null and m.read_seq < t.seq
    returning m.chat_id, m.user_id, m.read_seq, t.kind, t.low, t.high, t.members;
$$;
