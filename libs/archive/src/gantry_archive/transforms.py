"""What becomes of instances on their way to a destination: as they are, or changed as it wants.

outgoing (with corrections) ──▶ attributes removed, identities too ──▶ a syntax that it takes
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

from gantry_archive.outbound import Prepared, Withheld, prepared, prepared_from
from gantry_archive.outgoing import outgoing
from gantry_archive.profile_table import profile_actions
from gantry_archive.unnamed_file import UnnamedFile
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_domain.deidentification import subject
from gantry_domain.deidentification.profile import Profile
from gantry_domain.deidentification.pseudonyms import Pseudonyms
from gantry_domain.deidentification.subject import read_subject, withheld_class
from gantry_domain.edited_data_set import Editor, Encoded, edited
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.removal import Removal, parse_removal
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from gantry_runtime.partners import Partner
from gantry_runtime.settings import Settings
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Transforms:
    """Of one destination; without any of them instances go as they are.

    `pseudonyms`: it must not know whose the images are (PS3.15 Annex E). `removal`: attributes
    that it does not get. `syntaxes`: the transfer syntaxes that it is sent alone.
    """

    pseudonyms: Pseudonyms | None = None
    removal: Removal | None = None
    syntaxes: tuple[str, ...] = ()

    @property
    def hides_identities(self) -> bool:
        """Whether it must not know whose the images are."""
        return self.pseudonyms is not None

    def uid(self, uid: str) -> str:
        """Under which UID an instance, series or study of ours is known there."""
        return uid if self.pseudonyms is None else self.pseudonyms.uid(uid)

    def check_class(self, SOPClassUID: str) -> None:
        """Raises `Withheld` where nothing of this class may be sent there."""
        why = None if self.pseudonyms is None else withheld_class(SOPClassUID)
        if why is not None:
            raise _withheld(why)

    def contexts_for(self, stored: StoredObject) -> NegotiatedContexts:
        """What is accepted by who takes anything: as it is stored if it is sent that, or else
        Explicit VR Little Endian."""
        as_stored = stored.TransferSyntaxUID
        syntaxes = [as_stored] if not self.syntaxes or as_stored in self.syntaxes else []
        syntaxes += [EXPLICIT_VR_LITTLE_ENDIAN] if as_stored != EXPLICIT_VR_LITTLE_ENDIAN else []
        return NegotiatedContexts(
            [
                NegotiatedContext(number, stored.SOPClassUID, each)
                for number, each in enumerate(syntaxes)
            ]
        )

    @contextmanager
    def prepare(
        self, stored: StoredObject, contexts: NegotiatedContexts, *, store: ObjectStore
    ) -> Iterator[Prepared]:
        """As `prepared`; what must not be sent is `Withheld`."""
        if self.pseudonyms is None and self.removal is None:
            with prepared(stored, contexts, store=store) as ready:
                yield ready
            return
        source = outgoing(stored, store=store)
        encoded = Encoded(source.read, source.size, source.dataset_offset, stored.TransferSyntaxUID)
        editor, uid = self._editor(encoded)
        chunks = edited(encoded, editor)
        syntax = _syntax_after(stored.TransferSyntaxUID)
        context = contexts.accepts(stored.SOPClassUID, syntax)
        if context is not None:
            yield Prepared(context, chunks, SOPInstanceUID=uid)
            return
        kept = _kept(stored, syntax, uid, chunks)
        changed = replace(
            stored,
            TransferSyntaxUID=syntax,
            dataset_offset=kept.dataset_offset,
            size=kept.size,
            corrections=(),
        )
        with prepared_from(lambda: kept, changed, contexts) as ready:
            yield replace(ready, SOPInstanceUID=uid)

    def _editor(self, encoded: Encoded) -> tuple[Editor, str | None]:
        """What changes an object, and its new UID, if it gets one."""
        removal = self.removal or Removal()
        if self.pseudonyms is None:
            return removal, None
        found = read_subject(encoded)
        withheld = found.withheld()
        if withheld is not None:
            raise _withheld(withheld)
        profile = Profile(actions=profile_actions(), pseudonyms=self.pseudonyms)
        rest = profile.editor(found)
        return replace(removal, rest=rest), self.pseudonyms.uid(found.SOPInstanceUID)


AS_THEY_ARE = Transforms()


def _withheld(why: subject.Withheld) -> Withheld:
    return Withheld(f"it cannot be de-identified: {why.value}")


def transforms_of(settings: Settings, partner: Partner) -> Transforms:
    """Those that a partner is configured with."""
    return Transforms(
        pseudonyms=Pseudonyms(settings.deidentifying_key) if partner.deidentify else None,
        removal=parse_removal(partner.remove) if partner.remove else None,
        syntaxes=partner.send_syntaxes,
    )


def renaming_transforms(settings: Settings) -> dict[str, Transforms]:
    """Those of the partners that know our instances under other UIDs, by AE title in small
    letters."""
    return {
        partner.ae_title.casefold(): transforms_of(settings, partner)
        for partner in settings.partners
        if partner.deidentify
    }


def _syntax_after(stored: str) -> str:
    """In which an edited data set is: encapsulated pixels stay as they are."""
    syntax = TRANSFER_SYNTAXES.get(stored)
    return stored if syntax is not None and syntax.encapsulated else EXPLICIT_VR_LITTLE_ENDIAN


def _kept(
    stored: StoredObject, syntax: str, uid: str | None, chunks: Iterable[bytes]
) -> UnnamedFile:
    """The file of what an object has become, from which it can be converted."""
    head = encode_file_meta(
        FileMeta(
            MediaStorageSOPClassUID=stored.SOPClassUID,
            MediaStorageSOPInstanceUID=uid or "",
            TransferSyntaxUID=syntax,
            calling_ae="",
            receiving_ae="",
            partition="",
        )
    )
    file = UnnamedFile(dataset_offset=len(head))
    for chunk in chain([head], chunks):
        file.write(chunk)
    return file
