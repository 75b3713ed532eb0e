"""Scripts that must come out alike on the simulated log and on a real Kafka.

A line is a step; what it gave is part of what the two are compared by. Words:

    topic T N [compact]         publish R…                  read T        marks T
    open P                      commit P R… [by M P@…]      leave P R… [by M P@…]
    finish P commit|abort       join M[=NAME] G T…          settle M…     get M N
    poll M                      close M                     wait-alone M  committed M T/p…
    pause|resume M T/p          seek M T/p N                again M T…    ask M T/p  answer M
    trim T/p N                  place G T/p@N[:META]        positions G   who G
    ask-positions G  answer G   table T      heads T/p      read-heads T  read-now T
    delete T                    large P T/p BYTES           meta P M T/p LENGTH

`R` is `T/p=KEY:VALUE`, with `~` for nothing; `P@…` is `T/p@OFFSET[:META]`. `leave` begins a
transaction, sends all of it and says nothing of its end: what a process does that dies there.
A second alias of a NAME is its namesake: the same worker, started again.
"""

from __future__ import annotations

SCENARIOS = {
    # -- transactions ---------------------------------------------------------------------------
    "a transaction is visible whole, in every topic it touches": """
        topic a 2
        topic b 1
        open P
        commit P a/0=k:1 a/1=k:2 b/0=k:3 a/0=k:4
        commit P a/0=k:5
        read a
        read b
        marks a
    """,
    "one record alone is no transaction, several are one": """
        topic a 1
        publish a/0=k:1
        marks a
        publish a/0=k:2 a/0=k:3
        marks a
        read a
    """,
    "an aborted transaction leaves a gap that readers pass": """
        topic a 1
        open P
        leave P a/0=k:1 a/0=k:2
        finish P abort
        publish a/0=k:3
        read a
        marks a
    """,
    "a partition of aborted records only has an end that is reached": """
        topic a 1
        open P
        leave P a/0=k:1
        finish P abort
        read a
        marks a
    """,
    "an open transaction hides what comes after it": """
        topic a 1
        publish a/0=k:1
        open P
        open Q
        leave P a/0=k:2
        publish a/0=k:3
        commit Q a/0=k:4
        marks a
        read-now a
        finish P commit
        read a
        marks a
    """,
    "an open transaction hides nothing in other partitions": """
        topic a 2
        open P
        open Q
        leave P a/0=k:1
        commit Q a/1=k:2
        read-now a
        finish P abort
        read a
    """,
    "of two open transactions the older one counts": """
        topic a 1
        open P
        open Q
        leave P a/0=k:1
        leave Q a/0=k:2
        finish Q commit
        read-now a
        finish P abort
        read a
        marks a
    """,
    "two open transactions of one partition end in any order": """
        topic a 1
        open P
        open Q
        leave P a/0=k:1
        leave Q a/0=k:2
        finish P commit
        read-now a
        finish Q commit
        read a
    """,
    # -- fencing of producers, unknown outcomes ---------------------------------------------------
    "a producer that is opened again aborts what its namesake left open": """
        topic a 1
        open P
        leave P a/0=k:1
        open P
        read a
        commit P a/0=k:2
        read a
        marks a
    """,
    "whoever was fenced cannot end its transaction any more": """
        topic a 1
        open P
        leave P a/0=k:1
        open P
        finish-left P commit
        read a
    """,
    "who leaves a transaction open for too long loses it": """
        topic a 1
        open P
        leave P a/0=k:1
        publish a/0=k:2
        read a
        finish-left P commit
        marks a
    """,
    "whoever was fenced writes nothing": """
        topic a 1
        open P
        keep P old
        open P
        commit old a/0=k:1
        commit P a/0=k:2
        read a
    """,
    "an end that arrives late is an end all the same": """
        topic a 1
        topic in 1
        open P
        join m g in
        settle m
        leave P a/0=k:1 by m in/0@3
        finish P commit
        read a
        positions g
    """,
    "an outcome that nobody knows is settled by opening the id and reading the position": """
        topic a 1
        topic in 1
        open P
        join m g in
        settle m
        leave P a/0=k:1 by m in/0@3
        open P
        committed m in/0
        commit P a/0=k:1 by m in/0@3
        committed m in/0
        read a
    """,
    # -- positions --------------------------------------------------------------------------------
    "positions come with the transaction, and what is written beside them": """
        topic in 2
        topic a 1
        open P
        join m g in
        settle m
        commit P a/0=k:1 by m in/0@5:v;0;;5; in/1@7
        positions g
        committed m in/0 in/1
    """,
    "a transaction of positions only": """
        topic in 1
        open P
        join m g in
        settle m
        commit P by m in/0@9:x
        positions g
        marks in
    """,
    "positions of an aborted transaction were never said": """
        topic in 1
        topic a 1
        open P
        join m g in
        settle m
        commit P by m in/0@1
        leave P a/0=k:1 by m in/0@2
        finish P abort
        committed m in/0
        read a
    """,
    "a position that may still change is waited for": """
        topic in 1
        open P
        join m g in
        settle m
        leave P by m in/0@4
        ask m in/0
        finish P commit
        answer m
    """,
    "positions of a group are told when nothing can change them": """
        topic in 1
        open P
        join m g in
        settle m
        commit P by m in/0@2
        leave P by m in/0@4
        ask-positions g
        finish P abort
        answer g
    """,
    "the next member begins where the group stands and is told what was beside it": """
        topic in 1
        publish in/0=k:1 in/0=k:2 in/0=k:3
        open P
        join m g in
        settle m
        get m 3
        commit P by m in/0@2:meta
        close m
        join n g in
        settle n
        get n 1
    """,
    "a group without members can be placed anywhere": """
        topic in 2
        publish in/0=k:1
        publish in/0=k:2
        publish in/1=k:3
        place g in/0@1:moved
        positions g
        join m g in
        settle m
        get m 2
    """,
    "a group with members cannot be placed": """
        topic in 1
        join m g in
        settle m
        place g in/0@1
        positions g
    """,
    "two groups know nothing of each other": """
        topic in 1
        publish in/0=k:1 in/0=k:2
        open P
        join m g in
        join n h in
        settle m
        settle n
        commit P by m in/0@2
        get n 2
        positions g
        positions h
    """,
    "what is written beside a position has a longest length": """
        topic in 1
        open P
        join m g in
        settle m
        meta P m in/0 4000
        meta P m in/0 4200
        committed-length m in/0
    """,
    # -- groups -----------------------------------------------------------------------------------
    "two members share by range, and one that goes leaves its share": """
        topic in 4
        join m g in
        settle m
        join n g in
        settle m n
        who g
        close n
        settle m
    """,
    "of a topic more is shared than there are members for": """
        topic in 3
        topic other 2
        join m g in other
        join n g in other
        settle m n
    """,
    "members of one group may read different topics": """
        topic in 2
        topic other 2
        join m g in
        join n g other
        settle m n
    """,
    "a topic more makes a new generation": """
        topic in 1
        topic other 1
        join m g in
        settle m
        again m in other
        settle m
        publish other/0=k:1
        get m 1
    """,
    "a namesake takes the seat and the other one is told": """
        topic in 2
        topic a 1
        open P
        join m g in
        join n g in
        settle m n
        join m2=m g in
        settle m2 n
        commit P a/0=k:zombie by m in/0@1
        commit P a/0=k:new by m2 in/0@2
        poll m
        read a
        positions g
        who g
    """,
    "a former generation commits nothing": """
        topic in 2
        topic a 1
        open P
        join m g in
        settle m
        proof m old
        join n g in
        settle m n
        commit P a/0=k:zombie by old in/0@5
        commit P a/0=k:new by m in/0@1
        read a
        marks a
        positions g
    """,
    "the generation is looked at, not the owner": """
        topic in 2
        topic a 1
        open P
        join m g in
        join n g in
        settle m n
        commit P a/0=k:1 by m in/1@3
        positions g
    """,
    "a topic that a member never read can be committed by it": """
        topic in 1
        topic other 1
        open P
        join m g in
        settle m
        commit P by m other/0@3
        positions g
    """,
    "a transaction without positions is fenced by nobody": """
        topic in 2
        topic a 1
        open P
        join m g in
        settle m
        join n g in
        settle m n
        commit P a/0=k:zombie
        read a
    """,
    "a silent member is put out, and its commit is refused": """
        topic in 2
        topic a 1
        publish in/0=k:1
        publish in/1=k:2
        open P
        join m g in
        join n g in
        settle m n
        proof m old
        wait-alone n
        commit P a/0=k:zombie by old in/0@5
        get n 2
        commit P a/0=k:new by n in/0@1 in/1@1
        read a
        positions g
    """,
    # -- reading as a member ----------------------------------------------------------------------
    "a paused partition gives nothing and loses nothing": """
        topic in 2
        join m g in
        settle m
        pause m in/0
        publish in/0=k:1
        publish in/1=k:2
        get m 1
        resume m in/0
        get m 1
    """,
    "who seeks is given the first record from there on": """
        topic in 1
        open P
        commit P in/0=k:1
        leave P in/0=k:2
        finish P abort
        commit P in/0=k:3
        join m g in
        settle m
        get m 2
        seek m in/0 2
        get m 1
        seek m in/0 0
        get m 2
    """,
    "members are given committed records only": """
        topic in 1
        open P
        open Q
        join m g in
        settle m
        leave P in/0=k:1
        commit Q in/0=k:2
        get-now m
        finish P abort
        get m 1
    """,
    # -- the ends of a log ------------------------------------------------------------------------
    "what is trimmed is gone, and the low mark says so": """
        topic a 1
        publish a/0=k:1
        publish a/0=k:2
        publish a/0=k:3
        trim a/0 2
        read a
        marks a
    """,
    "what is trimmed beyond the end is all there is": """
        topic a 1
        publish a/0=k:1
        trim a/0 100
        marks a
        publish a/0=k:2
        read a
    """,
    "a position below the low mark is told, not skipped": """
        topic in 1
        publish in/0=k:1
        publish in/0=k:2
        publish in/0=k:3
        place g in/0@1
        trim in/0 2
        join m g in
        until-error m
        positions g
    """,
    "a position beyond the end is told, not moved": """
        topic in 1
        publish in/0=k:1
        place g in/0@50
        join m g in
        until-error m
        positions g
    """,
    "a trimmed partition without a position begins at its low mark": """
        topic in 1
        publish in/0=k:1
        publish in/0=k:2
        trim in/0 1
        join m g in
        settle m
        get m 1
    """,
    "a compacted topic is the newest value of each key": """
        topic t 1 compact
        publish t/0=k:1
        publish t/0=j:1
        publish t/0=k:2
        publish t/0=j:~
        open P
        commit P t/0=l:1 t/0=k:3
        leave P t/0=k:4 t/0=l:~
        finish P abort
        table t
        marks t
    """,
    "nothing, empty and repeated headers come back as they were": """
        topic a 1
        publish a/0=~:1 a/0=k:~ a/0=:
        heads a/0
        read a
        read-heads a
    """,
    # -- what is refused --------------------------------------------------------------------------
    "a record for nowhere takes its whole transaction with it": """
        topic a 1
        open P
        commit P a/0=k:1 nowhere/0=k:2
        commit P a/0=k:1 a/7=k:2
        publish nowhere/0=k:3
        commit P a/0=k:4
        read a
        join m g nowhere
    """,
    "a record that is too large takes its whole transaction with it": """
        topic a 1
        open P
        large P a/0 17000000
        commit P a/0=k:2
        read a
    """,
    "a record without a key for a compacted topic takes its whole transaction with it": """
        topic t 1 compact
        topic a 1
        open P
        commit P a/0=k:1 t/0=~:2
        commit P a/0=k:3
        read a
    """,
    "a topic is made once": """
        topic a 2
        topic a 2
        topic a 3
        publish a/1=k:1
        read a
    """,
    "a topic that is deleted takes its positions along": """
        topic in 1
        publish in/0=k:1
        place g in/0@1
        delete in
        topic in 1
        publish in/0=k:2
        join m g in
        settle m
        get m 1
    """,
}
