"""What each status and rejection of ours means: the tables of the conformance statement.

A test holds the statuses of each service against those that its code answers with.
"""

from collections.abc import Mapping

from gantry_domain.statuses import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    CANCEL,
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    DUPLICATE_SOP_INSTANCE,
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    INVALID_ARGUMENT_VALUE,
    INVALID_ATTRIBUTE_VALUE,
    LOCAL_LIMIT_EXCEEDED,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    MOVE_DESTINATION_UNKNOWN,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_OBJECT_INSTANCE,
    NOT_AUTHORIZED,
    OBJECT_TOO_LARGE,
    OUT_OF_RESOURCES,
    OUT_OF_RESOURCES_TO_COUNT,
    OUT_OF_RESOURCES_TO_FIND,
    OUT_OF_RESOURCES_TO_SEND,
    PENDING,
    PENDING_WARNING,
    PROCESSING_FAILURE,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    RESOURCE_LIMITATION,
    SERVICE_AWAY,
    SOME_SUB_OPERATIONS_FAILED,
    SOP_CLASS_NOT_SUPPORTED,
    SUB_OPERATIONS_CANCELLED,
    SUCCESS,
    TEMPORARY_CONGESTION,
    TOO_MANY_IMAGES,
    UNABLE_TO_PROCESS,
    UNPARSEABLE_REQUEST,
    UNRECOGNIZED_OPERATION,
    USER_IDENTITY_NOT_VERIFIED,
    Rejection,
    Status,
)

REJECTIONS: Mapping[Rejection, str] = {
    APPLICATION_CONTEXT_NOT_SUPPORTED: "another application context than that of DICOM",
    CALLING_AE_NOT_RECOGNIZED: (
        "a calling AE title that is not known where unknown ones are refused, one that is empty, "
        "or a known one from another host or without the certificate that it has to show"
    ),
    CALLED_AE_NOT_RECOGNIZED: "a called AE title that is none of ours",
    UNPARSEABLE_REQUEST: "a request that cannot be parsed",
    PROTOCOL_VERSION_NOT_SUPPORTED: "another version of the protocol",
    USER_IDENTITY_NOT_VERIFIED: "a user identity that is not verified, or none where one is needed",
    TEMPORARY_CONGESTION: "the process ends, or little memory or room in the store is left",
    SERVICE_AWAY: "the service that the association is for does not answer",
    LOCAL_LIMIT_EXCEEDED: "the limit of associations is reached: of all, or of this caller",
}

CONGESTED_ELSEWHERE = "the process ends"
"""What congestion is at ports that store nothing."""

C_ECHO: Mapping[Status, str] = {SUCCESS: "we are here"}

C_STORE: Mapping[Status, str] = {
    SUCCESS: "the object is durable in the object store",
    NOT_AUTHORIZED: "this AE title may not store; nothing is stored",
    SOP_CLASS_NOT_SUPPORTED: "instances of this SOP class are not stored",
    OUT_OF_RESOURCES: "the store stayed away or full; the same request may succeed later",
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS: (
        "SOP class, instance or study of data set and request differ; nothing is stored"
    ),
    CANNOT_UNDERSTAND: (
        "a UID is missing, which the Error Comment names, or the data set cannot be read as far as "
        "its UIDs; nothing is stored"
    ),
    OBJECT_TOO_LARGE: "larger than the configuration allows; nothing is stored",
    TOO_MANY_IMAGES: "the study has as many images as a rule allows; nothing is stored",
}

C_FIND: Mapping[Status, str] = {
    SUCCESS: "the last match was sent",
    PENDING: "a match; all keys that were asked for are supported",
    PENDING_WARNING: "a match; some keys that were asked for are not matched",
    CANCEL: "cancelled by the peer",
    NOT_AUTHORIZED: "this AE title may not query",
    OUT_OF_RESOURCES_TO_FIND: (
        "the index does not answer in time, or there are more matches than are returned"
    ),
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS: "a key that makes no sense, which Offending Element names",
    UNABLE_TO_PROCESS: "an error of the archive",
}

RETRIEVE: Mapping[Status, str] = {
    SUCCESS: "all instances were sent and taken",
    PENDING: "instances are being sent; the counts say how many",
    SOME_SUB_OPERATIONS_FAILED: (
        "some instances failed or were taken with a warning; the failed ones are listed"
    ),
    SUB_OPERATIONS_CANCELLED: "cancelled by the peer",
    NOT_AUTHORIZED: "this AE title may not retrieve",
    OUT_OF_RESOURCES_TO_COUNT: "the index does not answer in time",
    OUT_OF_RESOURCES_TO_SEND: "no instance could be sent",
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS: "the identifier names nothing that can be retrieved",
    UNABLE_TO_PROCESS: "an error of the archive",
}

C_MOVE: Mapping[Status, str] = {
    **RETRIEVE,
    MOVE_DESTINATION_UNKNOWN: "the destination is no partner of the configuration with an address",
}

PERFORMED_STEP: Mapping[Status, str] = {
    SUCCESS: "the step is stored as it was told",
    NOT_AUTHORIZED: "this AE title may not tell what it performed",
    DUPLICATE_SOP_INSTANCE: "N-CREATE: there is a step of this UID already",
    NO_SUCH_OBJECT_INSTANCE: "N-SET: there is no step of this UID",
    INVALID_ATTRIBUTE_VALUE: "a status that cannot be at this moment, or a UID that is none",
    MISSING_ATTRIBUTE: "an attribute is missing without which nothing can be filed",
    MISSING_ATTRIBUTE_VALUE: "an attribute is empty without which nothing can be filed",
    PROCESSING_FAILURE: (
        "the data set is missing or cannot be read; or N-SET: the step is over, with Error ID "
        "A710; or an error of the archive"
    ),
    RESOURCE_LIMITATION: "the index does not answer in time; the same request may succeed later",
}

COMMITMENT: Mapping[Status, str] = {
    SUCCESS: "the request is written down; the report follows",
    NOT_AUTHORIZED: "this AE title may not store",
    NO_SUCH_OBJECT_INSTANCE: "the request is not about the well-known instance",
    NO_SUCH_ACTION: "another action than that of requesting commitment",
    INVALID_ARGUMENT_VALUE: "a UID is missing, no instance is named, or nothing can be read",
    PROCESSING_FAILURE: "an error of the archive",
    RESOURCE_LIMITATION: "the index does not answer in time; the same request may succeed later",
}

COMMITMENT_REPORT: Mapping[Status, str] = {
    SUCCESS: "the report is written down",
    NO_SUCH_EVENT_TYPE: "another event than the two of the service",
    INVALID_ARGUMENT_VALUE: (
        "a Transaction UID that we never asked this partner under, or nothing can be read"
    ),
    PROCESSING_FAILURE: "an error of the archive",
    RESOURCE_LIMITATION: "the index does not answer in time; the same report may be taken later",
}

ANY_OTHER: Mapping[Status, str] = {
    SOP_CLASS_NOT_SUPPORTED: "a request that is not for the SOP class of its presentation context",
    UNRECOGNIZED_OPERATION: "a request of a service that is not served at this port",
}
