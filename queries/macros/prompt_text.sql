-- The words of a prompt as one string: its messages in order, without system messages.
CREATE MACRO prompt_text(messages) AS
    array_to_string(
        list_transform(list_filter(messages, lambda m: m.role <> 'system'), lambda m: m.content),
        ' '
    )
