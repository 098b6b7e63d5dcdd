"""The scheduler side: which blocks a request can load, and which blocks each step saves.

Runs in the engine's loop, so it waits for nothing, and takes every trouble for a miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.logger import init_logger

from chariot_ds._native import Connection, Lookup
from chariot_ds.vllm import compat, keys
from chariot_ds.vllm.blocks import LoadBlock, SaveBlock
from chariot_ds.vllm.compat import GroupTraits
from chariot_ds.vllm.search import Awaited, Patience, Search, Sought
from chariot_ds.vllm.settings import Settings
from chariot_ds.vllm.transfer_parameters import TransferParameters
from chariot_ds.vllm.vocabulary import Load, ShardDescriptions, StepMetadata, WorkerReport

logger = init_logger(f"vllm.{__name__}")

NULL_BLOCK = 0
"""The block id that stands for no block: a sliding window has passed it."""

FRESH = 0.1
"""Seconds for which what was found is believed while the engine has no room for the request."""


@dataclass
class Tracked:
    """What is known of one request that the engine has admitted or asked about."""

    request: Any
    keys: keys.RequestKeys
    block_ids: list[list[int]]
    """By group."""
    saved: list[int]
    """By group: how many blocks are saved, or need not be."""
    forwarded: list[int]
    """By group: how many blocks were sent on to `reader`."""
    reader: str | None
    """The data worker of the instance that decodes the request, where that is another one and known."""
    pin_seconds: float | None
    """For how long its prompt is kept before others, if it is hot."""
    awaited: Awaited | None
    """Another instance is said to compute the prompt now."""
    search: Search | None = None
    """What is being found out about it."""
    asked_from: int = 0
    """How many tokens were computed when it was last asked about."""
    is_prompt_end_saved: bool = False
    next_save: int = 0
    """As long as fewer tokens are computed, no block is full that is not saved."""
    has_failed: bool = False
    """Its last load failed: it is not asked about again before it has run."""
    computed: int = 0
    """How many tokens are computed when the steps planned so far have run, of those that are known."""
    resumes_at: int | None = None
    """It was preempted when so many tokens were computed, and all of them were saved."""


class Scheduler:
    """The scheduler side of one engine."""

    def __init__(self, vllm_config: Any, settings: Settings, groups: list[GroupTraits]) -> None:
        transfer = vllm_config.kv_transfer_config
        self._vllm_config = vllm_config
        self._settings = settings
        self._groups = groups
        self._saves = transfer.is_kv_producer
        self._loads = transfer.is_kv_consumer and (len(groups) == 1 or compat.REPORTS_FAILED_REQUESTS)
        self._loads_parts = compat.computes_behind_a_prefix(vllm_config)
        self._resumes = self._saves and self._loads
        self._resets = 0
        self._namespaces = self._make_namespaces()
        self._tracked: dict[str, Tracked] = {}
        self._loads_to_start: list[Load] = []
        timeout = settings.request_timeout_ms / 1000
        self._connection = Connection(
            settings.worker_address, "vllm scheduler", timeout, settings.namespace_of(vllm_config)
        )
        self._knows_shards = False
        self._lookup: Lookup | None = None
        """Made when shards are known."""
        self._worker_is_missed = False
        self._late: Search | None = None
        """Has a question to which the worker did not answer in time."""
        self._prefill_is_missed = False
        """The last prompt that another instance was said to compute did not come."""
        self._some_rest = False
        """Requests wait for others to compute what they need, and not for an answer."""
        self._has_complained = False
        """Of parameters that cannot be used."""

    def set_shards(self, ranks: Mapping[Any, Any]) -> None:
        """Takes what each rank said of its shard; lookups are possible from now on."""
        parallel = self._vllm_config.parallel_config
        expected = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
        if len(ranks) != expected:
            logger.error(
                "ChariotConnector: %d of %d ranks described their KV cache; nothing will be saved or loaded. "
                "Pipeline parallelism needs a newer vLLM.",
                len(ranks),
                expected,
            )
            return
        descriptions = [rank.groups for rank in ranks.values() if isinstance(rank, ShardDescriptions)]
        shards = [
            sorted({shard for rank in descriptions for shard in rank[group]}) for group in range(len(self._groups))
        ]
        self._knows_shards = True
        self._lookup = Lookup(self._connection, shards)

    def num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """How many tokens beyond those computed can be loaded; they always are asynchronously. None: ask later."""
        if (
            self._lookup is None
            or not self._loads
            or not self._is_cacheable(request)
            or compat.must_compute_whole_prompt(request)
        ):
            return 0, False
        if request.num_tokens < 2:
            return 0, False  # Its only token is computed again in any case.
        tracked = self._track(request)
        if tracked.has_failed:
            return 0, False
        search = tracked.search = self._search_of(tracked, num_computed_tokens)
        try:
            if self._worker_is_late():
                return 0, False
            hit = search.poll()
        except ConnectionError as error:
            if not self._worker_is_missed:
                logger.warning("ChariotConnector computes what it cannot look up: %s", error)
            self._worker_is_missed = True
            self._late, tracked.search = search, None
            return 0, False
        if hit is None:
            self._some_rest |= search.rests()
            return None, False
        if self._worker_is_missed:
            logger.info("ChariotConnector: the data worker is back")
            self._worker_is_missed = False
        if search.awaited is not None:
            self._note_awaited(has_come=not search.gave_up)
        if not self._loads_parts and hit < request.num_tokens - 1:
            return 0, False
        found = hit - num_computed_tokens
        return (found, True) if found > 0 else (0, False)

    def update_after_alloc(self, request: Any, table: Sequence[list[int]], num_external_tokens: int) -> None:
        """Plans the load of `num_external_tokens` tokens into the blocks that `table` has for them, by group."""
        if not self._is_cacheable(request):
            return
        tracked = self._track(request)
        tracked.search = None
        if num_external_tokens == 0:
            return
        end = tracked.asked_from + num_external_tokens
        for index, group in enumerate(self._groups):
            tracked.saved[index] = max(tracked.saved[index], end // group.block_size)
        tracked.is_prompt_end_saved |= end >= request.num_prompt_tokens
        seconds = self._settings.load_timeout_ms / 1000
        if tracked.awaited is not None:
            # What prefill still computes comes as fast as prefill computes it.
            seconds = max(seconds, tracked.awaited.seconds)
            tracked.awaited = None
        self._loads_to_start.append(Load(request.request_id, self._load_blocks(tracked, table, end), seconds))

    def _load_blocks(self, tracked: Tracked, table: Sequence[list[int]], end: int) -> list[LoadBlock]:
        """The blocks that hold the tokens up to `end` that are not computed."""
        blocks = []
        for index, group in enumerate(self._groups):
            first, last = tracked.asked_from // group.block_size, -(-end // group.block_size)
            content = tracked.keys.until(index, end)
            blocks += [
                LoadBlock(index, table[index][position], content[position])
                for position in range(first, last)
                if table[index][position] != NULL_BLOCK
            ]
        return blocks

    def begin_metadata(self, output: Any) -> StepMetadata:
        """What the workers load in the step that `output` describes. Resets what was planned for it."""
        loads, self._loads_to_start = self._loads_to_start, []
        rests, self._some_rest = self._some_rest, False
        return StepMetadata(loads=loads, is_empty=output.total_num_scheduled_tokens == 0, rests=rests)

    def add_saves(self, metadata: StepMetadata, output: Any) -> None:
        """Adds what the workers save in the step."""
        for new in output.scheduled_new_reqs:
            if tracked := self._tracked.get(new.req_id):
                tracked.has_failed = False
        for request_id in output.scheduled_cached_reqs.resumed_req_ids:
            if tracked := self._tracked.get(request_id):
                tracked.has_failed = False
        if not self._saves or not self._knows_shards:
            return
        for request_id in compat.preempted_requests(output) if self._resumes else ():
            if tracked := self._tracked.get(request_id):
                self._plan_tail(metadata, tracked)
        for new in output.scheduled_new_reqs:
            if tracked := self._tracked.get(new.req_id):
                tracked.block_ids = [list(ids) for ids in new.block_ids]
                self._plan_saves(metadata, tracked, new.num_computed_tokens, output, is_first=True)
        cached = output.scheduled_cached_reqs
        for request_id, new_ids, computed in zip(
            cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True
        ):
            if tracked := self._tracked.get(request_id):
                is_resumed = request_id in cached.resumed_req_ids
                if is_resumed:
                    tracked.block_ids = [[] for _ in self._groups]
                for ids, more in zip(tracked.block_ids, new_ids or (), strict=False):
                    ids.extend(more)
                self._plan_saves(metadata, tracked, computed, output, is_first=is_resumed)
        for reader, blocks in metadata.forwards.items():
            metadata.forwards[reader] = list(dict.fromkeys(blocks))
        if metadata.saves:
            # Requests of one step that begin alike write the same block.
            metadata.saves = list({(save.group, save.key): save for save in reversed(metadata.saves)}.values())[::-1]

    def take_reports(self, reports: WorkerReport | None) -> None:
        """Takes what the workers said of the last step."""
        for request_id in reports.failed_loads if reports else ():
            if tracked := self._tracked.get(request_id):
                tracked.has_failed = True
                tracked.saved = [0] * len(self._groups)
                tracked.is_prompt_end_saved = False
                tracked.next_save = 0

    def request_finished(self, request: Any) -> dict[str, Any] | None:
        """Forgets the request. Its blocks may be freed: what is worth saving was saved in the step that computed it.

        Returns parameters that a proxy hands on to the decode instance, when it asked for some.
        """
        tracked = self._tracked.pop(request.request_id, None)
        if not TransferParameters.of(request).is_decoded_elsewhere:
            return None
        return TransferParameters.answer(is_saved=tracked is not None and self._is_saved(tracked))

    def reset(self) -> None:
        """Makes every block saved so far a stranger: weights have changed, or whatever else makes old KV stale.

        Instances that are reset equally often still share what they save from then on.
        """
        self._resets += 1
        self._namespaces = self._make_namespaces()
        self._tracked.clear()

    def _plan_saves(
        self, metadata: StepMetadata, tracked: Tracked, computed: int, output: Any, *, is_first: bool
    ) -> None:
        """Adds the blocks that are full after this step, and the end of the prompt when the step reaches it.

        `computed` tokens were before the step. By block table and not by what the step computes, so that what came
        from vLLM's own prefix cache is saved as well. `is_first`: the block table is new.
        """
        request = tracked.request
        # Drafted tokens, and one that is still in flight, are not known: their blocks wait.
        end = min(computed + output.num_scheduled_tokens[request.request_id], request.num_tokens)
        tracked.computed, tracked.resumes_at = end, None
        prompt = request.num_prompt_tokens
        if end >= prompt and tracked.pin_seconds is not None:
            self._plan_pin(metadata, tracked, tracked.pin_seconds)
            tracked.pin_seconds = None
        if end < tracked.next_save and not is_first:
            return
        ends_prompt = end >= prompt and not tracked.is_prompt_end_saved
        self._plan_forwards(metadata, tracked, min(end, prompt))
        for index, group in enumerate(self._groups):
            size = group.block_size
            first, last = tracked.saved[index], end // size
            if not is_first:
                # Earlier blocks of the table may have passed the window and belong to others by now.
                first = max(first, group.first_needed(computed) // size)
            if last > first:
                self._add_saves(metadata, tracked, index, first, tracked.keys.until(index, last * size))
            tracked.saved[index] = max(tracked.saved[index], last)
            if ends_prompt and prompt % size and (is_first or computed < prompt):
                self._add_saves(metadata, tracked, index, prompt // size, tracked.keys.until(index, prompt))
        tracked.is_prompt_end_saved |= ends_prompt
        tracked.next_save = min(
            (saved + 1) * group.block_size for saved, group in zip(tracked.saved, self._groups, strict=True)
        )
        if not tracked.is_prompt_end_saved:
            tracked.next_save = min(tracked.next_save, prompt)

    def _plan_tail(self, metadata: StepMetadata, tracked: Tracked) -> None:
        """Adds a preempted request's last, partly filled blocks. All others were saved when they filled."""
        end = tracked.computed
        for index, group in enumerate(self._groups):
            table, position = tracked.block_ids[index], end // group.block_size
            if end % group.block_size and position < len(table) and table[position] != NULL_BLOCK:
                content = tracked.keys.until(index, end)
                parent = content[-2] if position else None
                metadata.tails.append(SaveBlock(index, table[position], content[-1], parent))
        tracked.resumes_at = end

    def _add_saves(
        self, metadata: StepMetadata, tracked: Tracked, index: int, first: int, content: list[bytes]
    ) -> None:
        table = tracked.block_ids[index]
        for position in range(first, min(len(content), len(table))):
            if table[position] != NULL_BLOCK:
                parent = content[position - 1] if position else None
                metadata.saves.append(SaveBlock(index, table[position], content[position], parent))

    def _plan_forwards(self, metadata: StepMetadata, tracked: Tracked, end: int) -> None:
        """Adds the prompt's blocks up to token `end` that the reader does not have yet.

        Saved in this step or before, by us or by others: the reader is to find everything in one place.
        """
        if tracked.reader is None:
            return
        prompt = tracked.request.num_prompt_tokens
        blocks: list[tuple[int, bytes]] = []
        for index, group in enumerate(self._groups):
            size, first = group.block_size, tracked.forwarded[index]
            if group.window is not None:
                first = max(first, (prompt - group.window) // size)
            content = tracked.keys.until(index, end if end == prompt else end // size * size)
            blocks += [(index, key) for key in content[first:]]
            tracked.forwarded[index] = max(first, len(content))
        if blocks:
            metadata.forwards.setdefault(tracked.reader, []).extend(blocks)

    def _plan_pin(self, metadata: StepMetadata, tracked: Tracked, seconds: float) -> None:
        """Adds the last full block of the prompt, which keeps all before it; of a short prompt, the one that it has."""
        prompt = tracked.request.num_prompt_tokens
        blocks: list[tuple[int, bytes]] = []
        for index, group in enumerate(self._groups):
            content = tracked.keys.until(index, prompt // group.block_size * group.block_size or prompt)
            blocks += [(index, key) for key in content[-1:]]
        metadata.pins.append((seconds, blocks))

    def _is_saved(self, tracked: Tracked) -> bool:
        """Whether the data worker holds all of the prompt that decode will look for."""
        prompt = tracked.request.num_prompt_tokens
        blocks = [
            (index, key)
            for index, group in enumerate(self._groups)
            for _, _, key in tracked.keys.blocks(index, max(0, prompt - (group.window or prompt)), prompt)
        ]
        try:
            return self._lookup is not None and self._lookup.holds(blocks)
        except ConnectionError:
            return False

    def _note_awaited(self, *, has_come: bool) -> None:
        """Says when prompts that others were said to compute begin not to come: something is set up wrong then."""
        if not has_come and not self._prefill_is_missed:
            logger.warning(
                "ChariotConnector: a prompt that another instance was said to compute did not come within %s s and is "
                "computed here. Is that instance's data worker in the same cluster?",
                self._settings.remote_prefill_timeout_ms / 1000,
            )
        self._prefill_is_missed = not has_come

    def _search_of(self, tracked: Tracked, start: int) -> Search:
        """The search for what the request lacks behind the first `start` tokens: the one under way, or a new one."""
        assert self._lookup is not None
        tracked.asked_from = start
        known, end = tracked.request.num_tokens, tracked.resumes_at
        tokens = Sought(start, known if end is None or end <= start else end, known)
        search = tracked.search
        if search is None or search.tokens != tokens or search.is_older_than(FRESH):
            # A block's worth of tokens is computed sooner than it comes, and what came after the prompt never does.
            lacks_much = tracked.request.num_prompt_tokens - start > tracked.keys.alignment
            is_prompt = tracked.request.num_tokens == tracked.request.num_prompt_tokens
            awaited = tracked.awaited if lacks_much and is_prompt else None
            patience = Patience(self._settings.lookup_timeout_ms / 1000, awaited)
            search = Search(self._lookup, self._groups, tracked.keys, tokens, patience)
        return search

    def _worker_is_late(self) -> bool:
        """Whether the worker owes an answer. One such question is enough: requests do not wait for it one by one.

        Raises `ConnectionError` once it was given up for that.
        """
        if self._late is not None:
            late, self._late = self._late, None
            if late.is_unanswered():
                self._late = late
        return self._late is not None

    def _track(self, request: Any) -> Tracked:
        tracked = self._tracked.get(request.request_id)
        if tracked is None or tracked.request is not request:
            parameters = TransferParameters.of(request)
            if parameters.trouble is not None and not self._has_complained:
                logger.warning(
                    "ChariotConnector: some of a request's `kv_transfer_params` is not used: %s", parameters.trouble
                )
                self._has_complained = True
            is_here = parameters.decode_worker == self._settings.worker_address
            patience = self._settings.remote_prefill_timeout_ms / 1000
            tracked = Tracked(
                request=request,
                keys=keys.RequestKeys(self._namespaces, self._groups, request),
                block_ids=[[] for _ in self._groups],
                saved=[0] * len(self._groups),
                forwarded=[0] * len(self._groups),
                reader=None if is_here else parameters.decode_worker,
                pin_seconds=parameters.pin_seconds,
                awaited=Awaited(patience) if parameters.is_being_prefilled else None,
            )
            self._tracked[request.request_id] = tracked
        return tracked

    @staticmethod
    def _is_cacheable(request: Any) -> bool:
        """Whether the request's known tokens stay what they are: those of a streamed prompt do not."""
        return not getattr(request, "resumable", False)

    def _make_namespaces(self) -> dict[int, bytes]:
        model_version = self._settings.model_version
        sizes = {group.block_size for group in self._groups}
        return {size: keys.content_namespace(self._vllm_config, model_version, size, self._resets) for size in sizes}
