"""Holds ToolGen's agents: messages in; a thought, an action and its arguments out. They know an engine, not GPUs.

Reading order:

    catalog, checkout, prompts        what can be called, and the texts around it, found in the user's checkout
    chat_format, turns                a conversation as text and token ids, as the model was trained to read it
    action_tokens, language           actions as token ids; everything an agent knows without its model
    agent_options, attempts           what it can be told; when a step is worth another attempt
    generation, session, agent        asking the engine; one conversation; the step of three generations
    agent_parts                       from a checkpoint and options to all of these
    server_needs, checkpoint_sampling what a generation server must keep to; how a checkpoint asks to be drawn from
"""
