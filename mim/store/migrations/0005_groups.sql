-- A session that opens asks for the groups of its user, which are few beside the direct chats: without looking at those.
-- Whether a chat is direct never changes, so its members' rows may say it too.
alter table member add column direct boolean not null default false;
update member m set direct = true from chat c where c.id = m.chat_id and c.kind = 1;
create index member_group on member (user_id) include (chat_id, first_seq) where left_at is null and not direct;
